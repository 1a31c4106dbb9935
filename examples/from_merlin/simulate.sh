python3 oscillator.py ;STIFFNESS; ;DAMPING;
