"""Speed, side by side with the lab, in one process and as medians: machines drift, ratios do not."""
