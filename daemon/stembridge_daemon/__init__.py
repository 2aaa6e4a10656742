"""The resident service behind Stembridge: a torch-free front and one worker process per device."""
