"""The work of each stage: one file a stage, named as the stage."""
