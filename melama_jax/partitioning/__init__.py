"""The mesh and the logical-axis rules, nothing else."""
