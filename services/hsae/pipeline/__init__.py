"""From a request to artifacts: planning, the queue, the stages, and what runs and maintains them."""
