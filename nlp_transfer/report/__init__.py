"""``report.html`` of a run and of a comparison: facts from their folders, figures, one self-contained page."""
