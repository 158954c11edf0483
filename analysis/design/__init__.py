"""Planning of studies: designs, simulated outcomes, power, and what a detector costs an attacker."""
