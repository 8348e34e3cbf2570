"""python scripts/evaluate.py …: the same as gpt-classifier evaluate …"""

from gpt_classifier.commands.evaluate import main

if __name__ == "__main__":
    main()
