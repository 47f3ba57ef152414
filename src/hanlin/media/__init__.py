"""Images, audio, files of others: how what a caller only points at comes here."""
