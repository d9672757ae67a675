"""How a network is trained: settings, the loop, what it keeps."""
