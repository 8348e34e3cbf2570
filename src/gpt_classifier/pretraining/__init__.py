"""Next-token training of a GPT from text, up to a folder that `model.weights` takes."""
