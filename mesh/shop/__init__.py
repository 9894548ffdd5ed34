"""The demo application (Bookinfo's names, our own code) and its visitors."""
