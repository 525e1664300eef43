"""Data sets downloaded, checked and unpacked."""
