"""What works with no network: sample messages, gpt2-nano."""

from pathlib import Path

ASSETS = Path(__file__).resolve().parent
