"""VST3 and Audio Units in processes of their own: found, opened, probed, and outlived."""
