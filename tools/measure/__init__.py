"""What `jtc bench` measures jtc with: timing in rounds, roofline, ablation of passes, and the tables of them."""
