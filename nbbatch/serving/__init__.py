"""How other processes see and steer an open store: its owner answers on a socket; who looks never takes the file's lock."""
