"""Events as they travel: one module per owner, each event declared once."""
