"""One HTML file that shows a comparison or a run, its figures and its single answers."""
