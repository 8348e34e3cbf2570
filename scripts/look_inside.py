"""python scripts/look_inside.py …: the same as gpt-classifier look-inside …"""

from gpt_classifier.commands.look_inside import main

if __name__ == "__main__":
    main()
