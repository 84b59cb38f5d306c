"""gradcheckd: a second opinion for gradients, over HTTP."""
