SET allowed_lateness = 5;
