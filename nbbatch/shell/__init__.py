"""The command ``nbbatch``: a store seen, run and steered from a terminal, a cron job or a container (needs ``nbbatch[cli]``)."""
