"""python scripts/examine.py …: the same as gpt-classifier examine …"""

from gpt_classifier.commands.examine import main

if __name__ == "__main__":
    main()
