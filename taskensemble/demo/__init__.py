"""The demo that ships with the package: a heated plate, simulated and predicted.

    plate.py       the simulation: the heat equation on a plate, in NumPy
    simulate.py    the program of a member: simulates, and asks the surrogate in the database for its prediction
    plate.in       its input file, with a tag for each parameter
    prepare.txt    the TorchScript that turns a field into the surrogate's input, inside the database
    surrogate.py   the surrogate, trained on the same simulation
    driver.py      the driver: describes the ensemble, starts it, prints the table
    picture.py     the picture of what came out

Run it by `taskensemble demo`, or `python -m taskensemble.demo`.
"""
