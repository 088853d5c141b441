"""Questions about what there is: studies, jobs, analyses, names."""
