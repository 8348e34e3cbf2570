"""Fine-tune a GPT that was pretrained to continue text into a text classifier."""
