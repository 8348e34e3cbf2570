"""python scripts/label.py …: the same as gpt-classifier label …"""

from gpt_classifier.commands.label import main

if __name__ == "__main__":
    main()
