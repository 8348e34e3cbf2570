"""python scripts/export.py …: the same as gpt-classifier export …"""

from gpt_classifier.commands.export import main

if __name__ == "__main__":
    main()
