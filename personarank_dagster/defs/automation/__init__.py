"""What runs when: plans, jobs, schedules, sensors, and the upkeep of what they leave."""
