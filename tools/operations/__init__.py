"""The commands that operators run against AWS accounts, such as deploy, doctor, where and redrive."""
