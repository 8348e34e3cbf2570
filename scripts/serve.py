"""python scripts/serve.py …: the same as gpt-classifier serve …"""

from gpt_classifier.commands.serve import main

if __name__ == "__main__":
    main()
