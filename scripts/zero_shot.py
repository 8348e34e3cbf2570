"""python scripts/zero_shot.py …: the same as gpt-classifier zero-shot …"""

from gpt_classifier.commands.zero_shot import main

if __name__ == "__main__":
    main()
