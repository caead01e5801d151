"""`python -m stillmotion.cli`: the same as the console script."""

from stillmotion.cli import main

main()
