"""The native engine: instances are processes of this machine, isolated as far as the kernel and our rights allow."""
