"""python scripts/compare.py …: the same as gpt-classifier compare …"""

from gpt_classifier.commands.compare import main

if __name__ == "__main__":
    main()
