"""The paper's questions as recipes: a plan fixed beforehand, units, data, figure and text."""
