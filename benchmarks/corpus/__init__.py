"""How a folder grows: adding, searching, filtering and removing among ten thousand to a million chunks."""
