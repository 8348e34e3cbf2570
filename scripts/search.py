"""python scripts/search.py …: the same as gpt-classifier search …"""

from gpt_classifier.commands.search import main

if __name__ == "__main__":
    main()
