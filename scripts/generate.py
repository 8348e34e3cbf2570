"""python scripts/generate.py …: the same as gpt-classifier generate …"""

from gpt_classifier.commands.generate import main

if __name__ == "__main__":
    main()
