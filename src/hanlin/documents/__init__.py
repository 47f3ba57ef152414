"""Files become text, text becomes passages, and passages are found that answer a question."""
