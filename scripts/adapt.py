"""python scripts/adapt.py …: the same as gpt-classifier adapt …"""

from gpt_classifier.commands.adapt import main

if __name__ == "__main__":
    main()
