"""Everything Stembridge decides for REAPER. The scripts inside REAPER collect values and carry out orders."""
