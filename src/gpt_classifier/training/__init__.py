"""Lightning lives here."""
