"""What tools/bench is made of: monitors, their processes, the experiments and the report."""
