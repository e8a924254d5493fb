"""The commands that operators run against AWS accounts, such as deploy, doctor, prepare and redrive."""
