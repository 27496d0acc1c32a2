"""Networks on plain tensors: they know numbers of channels, never their names."""
