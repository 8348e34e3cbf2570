"""python scripts/experiments.py …: the same as gpt-classifier experiments …"""

from gpt_classifier.commands.experiments import main

if __name__ == "__main__":
    main()
