"""People label answers: pages to label on, and what their labels say of the judges."""
