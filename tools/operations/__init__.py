"""What operators run against AWS accounts: deploy, doctor, prepare and redrive."""
