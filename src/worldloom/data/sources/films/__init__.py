"""Folders of videos or of pictures, with tables of actions beside them."""
