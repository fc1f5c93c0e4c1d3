"""The arithmetic of scales: labels, blocks, abstract values, and the operations that rules are written with."""
