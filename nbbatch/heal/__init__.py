"""Understanding failures and mending them: groups of failures, replay, preview, comparison, export and retry plans."""
