"""python scripts/distil.py …: the same as gpt-classifier distil …"""

from gpt_classifier.commands.distil import main

if __name__ == "__main__":
    main()
