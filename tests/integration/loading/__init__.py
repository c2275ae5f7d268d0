"""The loading room against servers on real sockets."""
